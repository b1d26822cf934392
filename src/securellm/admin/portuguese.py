"""The commonest reasons of this API in Portuguese, by their English words; what is not here is said in English.

Records and logs keep the English ones: whoever searches them finds one sentence for one reason.
"""

import re
from collections.abc import Mapping

REASONS: Mapping[str, str] = {
    # Who calls
    "the request carries no credential of the control plane": "a requisição não traz credencial do plano de controle",
    "this is no credential of the control plane": "esta não é uma credencial do plano de controle",
    "the access token was revoked": "o token de acesso foi revogado",
    "the access token has expired": "o token de acesso expirou",
    "there is no such session": "esta sessão não existe",
    "the session has ended": "a sessão terminou",
    "this principal is disabled": "este principal está desativado",
    "this person is disabled": "esta pessoa está desativada",
    "too many wrong credentials from this address": "credenciais erradas demais a partir deste endereço",
    "no such one-time secret: it was used, or never issued": "este segredo de uso único já foi usado ou nunca existiu",
    "this one-time secret has expired": "este segredo de uso único expirou",
    "nobody logs in through this issuer": "ninguém entra por este emissor",
    "the login is valid, and this person is not known here": "o login é válido, mas esta pessoa não é conhecida aqui",
    # What they may
    "this asks for the permission {}": "isto exige a permissão {}",
    "this asks for {} there": "isto exige {} ali",
    "the role {} contains {}, which the grantor does not hold there": (
        "o papel {} contém {}, que quem concede não tem ali"
    ),
    "they hold {} where the caller does not": "essa pessoa tem {} onde quem chama não tem",
    "a person's access tokens are for that person alone: invite them instead": (
        "os tokens de acesso de uma pessoa são só dela: convide-a"
    ),
    "who proposed it cannot decide it": "quem propôs não pode decidir",
    "only a person may decide a proposal": "só uma pessoa pode decidir uma proposta",
    "only who proposed it may withdraw it": "só quem propôs pode retirar a proposta",
    "the proposal is {} already": "a proposta já está no estado {}",
    "this takes two people; alone, the host says why (X-Break-Glass)": (
        "isto exige duas pessoas; sozinho, o host diz por quê (X-Break-Glass)"
    ),
    "{} people may approve this, so the glass stays whole": "{} pessoas podem aprovar isto; o vidro fica inteiro",
    # What there is
    "there is nothing of this id": "não existe nada com este id",
    "there is no tenant of this id": "não existe tenant com este id",
    "no {} has this id": "não existe {} com este id",
    "there is one of this id already": "já existe um com este id",
    "nothing is served at this path": "nada é servido neste caminho",
    "this path does not take this method": "este caminho não aceita este método",
    # What is asked
    "{} member(s) of the request are not valid": "{} membro(s) da requisição não são válidos",
    "name the tenant": "informe o tenant",
    "the change does not say what it is based on": "a mudança não diz em que versão se baseia",
    "it has changed since it was read": "mudou desde que foi lido",
    "this {} is declared in the configuration file": "{}: declaração do arquivo de configuração",
    "the body exceeds {} bytes": "o corpo excede {} bytes",
    "the key would have expired already": "a chave já estaria expirada",
    "this cursor was not given for this list": "este cursor não foi dado para esta lista",
    # What is ours
    "an unexpected error stopped this request": "um erro inesperado interrompeu esta requisição",
    "what is stored cannot be read": "o que está armazenado não pode ser lido",
}

_NOUNS: Mapping[str, str] = {
    "access token": "token de acesso",
    "budget": "orçamento",
    "decision": "decisão",
    "grant": "concessão",
    "limit": "limite",
    "model": "modelo",
    "policy version": "versão de política",
    "project": "projeto",
    "proposal": "proposta",
    "provider": "provedor",
    "service": "serviço",
    "user": "usuário",
    "virtual key": "chave virtual",
}
_PATTERNS = [
    (re.compile("(.+)".join(map(re.escape, english.split("{}")))), said)
    for english, said in REASONS.items()
    if "{}" in english
]


def in_portuguese(reason: str) -> str:
    """`reason` in Portuguese where we know it so."""
    said = REASONS.get(reason)
    if said is not None:
        return said
    for pattern, template in _PATTERNS:
        found = pattern.fullmatch(reason)
        if found is not None:
            return template.format(*(_NOUNS.get(value, value) for value in found.groups()))
    return reason
