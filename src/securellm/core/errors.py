"""Every way a request can fail, in three families by who must act.

`Refusal`: we said no; the caller or their administrator acts. `UpstreamFailure`: the provider said no or broke;
routing acts. `Fault`: our own dependency or a bug; the operator acts, and the request fails closed.

Codes are append-only: a published code never changes its meaning. Only `ingress` and `admin` turn an error into
a wire shape.
"""

from enum import StrEnum
from typing import ClassVar, NamedTuple


class Family(StrEnum):
    REFUSAL = "refusal"
    UPSTREAM = "upstream"
    FAULT = "fault"


class Spec(NamedTuple):
    """What an error code promises: its HTTP status, whether trying again can help, and what to do."""

    family: Family
    status: int
    retryable: bool
    remedy: str
    remedy_pt: str


class Code(StrEnum):
    """One name for each failure; the value is what callers, records and metrics see."""

    # Malformed requests
    MALFORMED_JSON = "malformed_json"
    MALFORMED_FORM = "malformed_form"
    DUPLICATE_KEY = "duplicate_key"
    INVALID_UTF8 = "invalid_utf8"
    TOO_DEEP = "too_deep"
    BODY_TOO_LARGE = "body_too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    REQUEST_TIMEOUT = "request_timeout"
    INVALID_HEADER = "invalid_header"
    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    UNSUPPORTED_FIELD = "unsupported_field"
    NOT_REPRESENTABLE = "not_representable"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    MISDIRECTED = "misdirected"
    # Identity and policy
    MISSING_KEY = "missing_key"
    INVALID_KEY = "invalid_key"
    EXPIRED_KEY = "expired_key"
    REVOKED_KEY = "revoked_key"
    SURFACE_NOT_ALLOWED = "surface_not_allowed"
    IP_NOT_ALLOWED = "ip_not_allowed"
    CREDENTIAL_EXPIRED = "credential_expired"
    CREDENTIAL_REVOKED = "credential_revoked"
    UNKNOWN_MODEL = "unknown_model"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    MANAGED_BY_FILE = "managed_by_file"
    ADMIN_REQUIRED = "admin_required"
    FORBIDDEN = "forbidden"
    POLICY_DENIED = "policy_denied"
    APPROVAL_REQUIRED = "approval_required"
    UNPROCESSABLE = "unprocessable"
    CONFLICT = "conflict"
    PRECONDITION_FAILED = "precondition_failed"
    PRECONDITION_REQUIRED = "precondition_required"
    # Limits and money
    RATE_LIMITED = "rate_limited"
    TOO_MANY_PARALLEL = "too_many_parallel"
    BUDGET_EXHAUSTED = "budget_exhausted"
    BUDGET_HELD = "budget_held"
    UNKNOWN_PRICE = "unknown_price"
    UNPRICED_FEATURE = "unpriced_feature"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    # Asking again
    IDEMPOTENT_IN_FLIGHT = "idempotent_in_flight"
    IDEMPOTENT_MISMATCH = "idempotent_mismatch"
    IDEMPOTENT_RESULT_EXPIRED = "idempotent_result_expired"
    # Guard
    GUARD_BLOCKED = "guard_blocked"
    REPLY_BLOCKED = "reply_blocked"
    # Routing
    NO_ROUTE = "no_route"
    UNSUPPORTED_CAPABILITY = "unsupported_capability"
    # Upstream
    AUTH_ERROR = "auth_error"
    TIMEOUT = "timeout"
    PROVIDER_RATE_LIMITED = "provider_rate_limited"
    PROVIDER_ERROR = "provider_error"
    PROVIDER_UNREACHABLE = "provider_unreachable"
    PROVIDER_QUOTA = "provider_quota"
    BAD_REQUEST = "bad_request"
    CONTENT_FILTERED = "content_filtered"
    CONTEXT_TOO_LONG = "context_too_long"
    PROVIDER_OVERLOADED = "provider_overloaded"
    TRUNCATED = "truncated"
    BAD_REPLY = "bad_reply"
    REPLY_TOO_LARGE = "reply_too_large"
    NOT_KEPT = "not_kept"
    # Faults
    GATE_FAILED = "gate_failed"
    GATE_TIMEOUT = "gate_timeout"
    GUARD_UNAVAILABLE = "guard_unavailable"
    STALE_POLICY = "stale_policy"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    CREDENTIAL_UNAVAILABLE = "credential_unavailable"
    ISSUER_UNAVAILABLE = "issuer_unavailable"
    SHUTTING_DOWN = "shutting_down"
    INTERNAL = "internal"
    # Outcomes that are recorded, never answered
    CLIENT_DISCONNECTED = "client_disconnected"
    UNKNOWN_OUTCOME = "unknown_outcome"

    @property
    def spec(self) -> Spec:
        return SPECS[self]


def _refusal(status: int, remedy: str, remedy_pt: str, *, retryable: bool = False) -> Spec:
    return Spec(Family.REFUSAL, status, retryable, remedy, remedy_pt)


def _upstream(status: int, remedy: str, remedy_pt: str, *, retryable: bool = False) -> Spec:
    return Spec(Family.UPSTREAM, status, retryable, remedy, remedy_pt)


def _fault(status: int, remedy: str, remedy_pt: str, *, retryable: bool = True) -> Spec:
    return Spec(Family.FAULT, status, retryable, remedy, remedy_pt)


SPECS: dict[Code, Spec] = {
    Code.MALFORMED_JSON: _refusal(
        400,
        "Send one valid JSON object (RFC 8259) and nothing after it.",
        "Envie um único objeto JSON válido (RFC 8259), sem nada depois dele.",
    ),
    Code.MALFORMED_FORM: _refusal(
        400,
        "Send one whole multipart/form-data body (RFC 7578) with its boundary in Content-Type.",
        "Envie um único corpo multipart/form-data inteiro (RFC 7578), com seu boundary em Content-Type.",
    ),
    Code.DUPLICATE_KEY: _refusal(
        400,
        "Name each member of an object once.",
        "Use cada chave de um objeto uma única vez.",
    ),
    Code.INVALID_UTF8: _refusal(
        400,
        "Encode the body as UTF-8, without lone surrogates.",
        "Codifique o corpo em UTF-8, sem substitutos (surrogates) isolados.",
    ),
    Code.TOO_DEEP: _refusal(
        400,
        "Nest objects and arrays less deeply, or raise server.max_depth.",
        "Aninhe menos objetos e listas, ou aumente server.max_depth.",
    ),
    Code.BODY_TOO_LARGE: _refusal(
        413,
        "Send a smaller body, or raise server.max_body.",
        "Envie um corpo menor, ou aumente server.max_body.",
    ),
    Code.HEADERS_TOO_LARGE: _refusal(
        431,
        "Send fewer or shorter headers, or raise server.max_headers.",
        "Envie menos cabeçalhos ou cabeçalhos menores, ou aumente server.max_headers.",
    ),
    Code.REQUEST_TIMEOUT: _refusal(
        408,
        "Send the whole request faster, or raise server.request_timeout.",
        "Envie a requisição inteira mais rápido, ou aumente server.request_timeout.",
        retryable=True,
    ),
    Code.INVALID_HEADER: _refusal(
        400,
        "Send this header once, with a value its specification allows.",
        "Envie este cabeçalho uma única vez, com um valor permitido por sua especificação.",
    ),
    Code.INVALID_REQUEST: _refusal(
        400,
        "Correct the named field; the API's reference gives its shape.",
        "Corrija o campo indicado; a referência da API mostra o formato.",
    ),
    Code.UNSUPPORTED_ENCODING: _refusal(
        415,
        "Send the body uncompressed, or with Content-Encoding: gzip or deflate.",
        "Envie o corpo sem compressão, ou com Content-Encoding: gzip ou deflate.",
    ),
    Code.UNSUPPORTED_FIELD: _refusal(
        400,
        "Leave this field out; the gateway cannot govern what it asks for.",
        "Remova este campo; o gateway não consegue governar o que ele pede.",
    ),
    Code.NOT_REPRESENTABLE: _refusal(
        400,
        "Use a model whose provider speaks this surface, or leave the named field out.",
        "Use um modelo cujo provedor atenda esta superfície, ou remova o campo indicado.",
    ),
    Code.NOT_FOUND: _refusal(
        404,
        "Check the id and the path; docs/reference/api.md lists what is served.",
        "Confira o id e o caminho; docs/reference/api.md lista o que é atendido.",
    ),
    Code.METHOD_NOT_ALLOWED: _refusal(
        405,
        "Use the method named in the Allow header.",
        "Use o método indicado no cabeçalho Allow.",
    ),
    Code.MISDIRECTED: _refusal(
        421,
        "Call the gateway by a name it answers for, or have its operator list this one in server.hosts "
        "(of the admin listener: server.admin_hosts).",
        "Chame o gateway por um nome pelo qual ele responde, ou peça ao operador que inclua este em server.hosts "
        "(na administração: server.admin_hosts).",
    ),
    Code.MISSING_KEY: _refusal(
        401,
        "Send a virtual key as Authorization: Bearer, x-api-key, api-key or x-goog-api-key.",
        "Envie uma chave virtual em Authorization: Bearer, x-api-key, api-key ou x-goog-api-key.",
    ),
    Code.INVALID_KEY: _refusal(
        401,
        "Check the virtual key, or ask your administrator for a new one.",
        "Confira a chave virtual, ou peça uma nova ao administrador.",
    ),
    Code.EXPIRED_KEY: _refusal(
        401,
        "Ask your administrator for a new virtual key; this one has expired.",
        "Peça uma nova chave virtual ao administrador; esta expirou.",
    ),
    Code.REVOKED_KEY: _refusal(
        401,
        "Ask your administrator for a new virtual key; this one was revoked.",
        "Peça uma nova chave virtual ao administrador; esta foi revogada.",
    ),
    Code.SURFACE_NOT_ALLOWED: _refusal(
        403,
        "Use a surface this key is scoped to, or ask for a wider scope.",
        "Use uma superfície permitida a esta chave, ou peça um escopo maior.",
    ),
    Code.IP_NOT_ALLOWED: _refusal(
        403,
        "Call from a network this credential is bound to, or ask for a wider scope.",
        "Chame a partir de uma rede permitida a esta credencial, ou peça um escopo maior.",
    ),
    Code.CREDENTIAL_EXPIRED: _refusal(
        401,
        "Log in again, or have a new access token issued.",
        "Entre novamente, ou solicite um novo token de acesso.",
    ),
    Code.CREDENTIAL_REVOKED: _refusal(
        401,
        "Ask an administrator: this access was ended.",
        "Fale com um administrador: este acesso foi encerrado.",
    ),
    Code.UNKNOWN_MODEL: _refusal(
        404,
        "Use a model that GET /v1/models lists.",
        "Use um modelo listado em GET /v1/models.",
    ),
    Code.MODEL_NOT_ALLOWED: _refusal(
        403,
        "Use a model that GET /v1/models lists for this key, or ask for access.",
        "Use um modelo que GET /v1/models liste para esta chave, ou peça acesso.",
    ),
    Code.MANAGED_BY_FILE: _refusal(
        409,
        "Change this in the configuration file and restart, or send SIGHUP.",
        "Altere isto no arquivo de configuração e reinicie, ou envie SIGHUP.",
    ),
    Code.ADMIN_REQUIRED: _refusal(
        401,
        "Send an access token, a service's token or the admin token as Authorization: Bearer, or log in.",
        "Envie um token de acesso, o token de um serviço ou o de administração em Authorization: Bearer, ou entre.",
    ),
    Code.FORBIDDEN: _refusal(
        403,
        "Ask somebody who may do it, or have a role granted that contains the permission.",
        "Peça a quem pode fazê-lo, ou solicite um papel que contenha a permissão.",
    ),
    Code.POLICY_DENIED: _refusal(
        403,
        "Ask for what the policy allows; the decision id says to the operator which rule decided.",
        "Peça o que a política permite; o id da decisão diz ao operador qual regra decidiu.",
    ),
    Code.APPROVAL_REQUIRED: _refusal(
        403,
        "A second person must approve it first; ask again once they have.",
        "Uma segunda pessoa precisa aprovar antes; tente novamente depois da aprovação.",
    ),
    Code.UNPROCESSABLE: _refusal(
        422,
        "Correct or remove the member that is named.",
        "Corrija ou remova o campo indicado.",
    ),
    Code.CONFLICT: _refusal(
        409,
        "Read what exists now, then change that, or use another id.",
        "Leia o que existe agora e altere isso, ou use outro id.",
    ),
    Code.PRECONDITION_FAILED: _refusal(
        412,
        "Read it again, and send its present ETag in If-Match.",
        "Leia de novo e envie o ETag atual em If-Match.",
    ),
    Code.PRECONDITION_REQUIRED: _refusal(
        428,
        "Send the ETag of what you have read in If-Match.",
        "Envie em If-Match o ETag do que foi lido.",
    ),
    Code.RATE_LIMITED: _refusal(
        429,
        "Wait for the time in retry-after, or ask for a higher limit.",
        "Aguarde o tempo indicado em retry-after, ou peça um limite maior.",
        retryable=True,
    ),
    Code.TOO_MANY_PARALLEL: _refusal(
        429,
        "Wait for a running request to end, or ask for more parallel requests.",
        "Aguarde o fim de uma requisição em andamento, ou peça mais requisições paralelas.",
        retryable=True,
    ),
    Code.BUDGET_EXHAUSTED: _refusal(
        402,
        "Raise the tenant's budget, lower the output cap, or wait for the next period.",
        "Aumente o orçamento do tenant, reduza o limite de saída, ou aguarde o próximo período.",
    ),
    Code.BUDGET_HELD: _refusal(
        429,
        "Wait: running requests hold the rest of the budget and may release part of it.",
        "Aguarde: requisições em andamento reservam o restante do orçamento e podem liberar parte dele.",
        retryable=True,
    ),
    Code.UNKNOWN_PRICE: _refusal(
        402,
        "Give this model a price in the configuration; a hard budget cannot reserve without one.",
        "Informe o preço deste modelo na configuração; um orçamento rígido não reserva sem preço.",
    ),
    Code.UNPRICED_FEATURE: _refusal(
        402,
        "Leave the named field out, or give it a price; a hard budget cannot reserve without one.",
        "Remova o campo indicado, ou informe seu preço; um orçamento rígido não reserva sem preço.",
    ),
    Code.DEADLINE_EXCEEDED: _refusal(
        408,
        "Allow more time in x-request-deadline.",
        "Permita mais tempo em x-request-deadline.",
    ),
    Code.IDEMPOTENT_IN_FLIGHT: _refusal(
        409,
        "Ask again after retry-after, with the same body: the first request's answer is then given.",
        "Repita após retry-after, com o mesmo corpo: então será dada a resposta da primeira requisição.",
        retryable=True,
    ),
    Code.IDEMPOTENT_MISMATCH: _refusal(
        422,
        "Use a new Idempotency-Key for a new request; the same key means the same request.",
        "Use uma Idempotency-Key nova para uma requisição nova; a mesma chave significa a mesma requisição.",
    ),
    Code.IDEMPOTENT_RESULT_EXPIRED: _refusal(
        409,
        "Look whether the first request did its work; to ask and pay once more, use a new Idempotency-Key.",
        "Verifique se a primeira requisição teve efeito; para pedir e pagar de novo, use outra Idempotency-Key.",
    ),
    Code.GUARD_BLOCKED: _refusal(
        403,
        "Remove what the guard found; quote the decision id to your security officer.",
        "Remova o que a proteção encontrou; informe o id da decisão ao responsável por segurança.",
    ),
    Code.REPLY_BLOCKED: _refusal(
        403,
        "The model's reply was withheld; quote the decision id to your security officer.",
        "A resposta do modelo foi retida; informe o id da decisão ao responsável por segurança.",
    ),
    Code.NO_ROUTE: _refusal(
        400,
        "Use this model on a surface its providers speak; GET /v1/models names them.",
        "Use este modelo em uma superfície que seus provedores atendam; GET /v1/models os indica.",
    ),
    Code.UNSUPPORTED_CAPABILITY: _refusal(
        400,
        "Leave out what the message names, or use a model that offers it.",
        "Remova o que a mensagem indica, ou use um modelo que o ofereça.",
    ),
    Code.AUTH_ERROR: _upstream(
        502,
        "The operator must correct the provider credential.",
        "O operador deve corrigir a credencial do provedor.",
    ),
    Code.TIMEOUT: _upstream(
        504,
        "Try again, or ask the operator for longer provider timeouts.",
        "Tente novamente, ou peça ao operador tempos limite maiores.",
        retryable=True,
    ),
    Code.PROVIDER_RATE_LIMITED: _upstream(
        429,
        "Wait for the time in retry-after; the provider limits the operator's account.",
        "Aguarde o tempo em retry-after; o provedor limita a conta do operador.",
        retryable=True,
    ),
    Code.PROVIDER_ERROR: _upstream(
        502,
        "Try again; the provider failed.",
        "Tente novamente; o provedor falhou.",
        retryable=True,
    ),
    Code.PROVIDER_UNREACHABLE: _upstream(
        502,
        "Try again; the operator should check the provider's base_url, DNS and TLS.",
        "Tente novamente; o operador deve conferir base_url, DNS e TLS do provedor.",
        retryable=True,
    ),
    Code.PROVIDER_QUOTA: _upstream(
        502,
        "The operator must top up the provider account or raise its quota.",
        "O operador deve recarregar a conta do provedor ou aumentar sua cota.",
    ),
    Code.BAD_REQUEST: _upstream(
        400,
        "Correct the request as the provider's message says.",
        "Corrija a requisição conforme a mensagem do provedor.",
    ),
    Code.CONTENT_FILTERED: _upstream(
        400,
        "Rephrase the request; the provider's own filter refused it.",
        "Reformule a requisição; o filtro do próprio provedor a recusou.",
    ),
    Code.CONTEXT_TOO_LONG: _upstream(
        400,
        "Shorten the prompt, or use a model with a longer context.",
        "Encurte o prompt, ou use um modelo com contexto maior.",
    ),
    Code.PROVIDER_OVERLOADED: _upstream(
        503,
        "Try again after retry-after; the provider is overloaded.",
        "Tente novamente após retry-after; o provedor está sobrecarregado.",
        retryable=True,
    ),
    Code.TRUNCATED: _upstream(
        502,
        "Discard the partial answer and try again; the provider cut the stream.",
        "Descarte a resposta parcial e tente novamente; o provedor interrompeu o fluxo.",
        retryable=True,
    ),
    Code.BAD_REPLY: _upstream(
        502,
        "Try again; the provider's answer was not valid.",
        "Tente novamente; a resposta do provedor não era válida.",
        retryable=True,
    ),
    Code.REPLY_TOO_LARGE: _upstream(
        502,
        "Ask for less output; the provider's answer exceeds what the gateway screens.",
        "Peça menos saída; a resposta do provedor excede o que o gateway inspeciona.",
    ),
    Code.NOT_KEPT: _upstream(
        404,
        "Make it again; the provider does not keep it any more.",
        "Crie-o de novo; o provedor não o guarda mais.",
    ),
    Code.GATE_FAILED: _fault(
        503,
        "Try again; the operator should read the log for this request id.",
        "Tente novamente; o operador deve ler o log deste id de requisição.",
    ),
    Code.GATE_TIMEOUT: _fault(
        503,
        "Try again; the operator should read the log for this request id.",
        "Tente novamente; o operador deve ler o log deste id de requisição.",
    ),
    Code.GUARD_UNAVAILABLE: _fault(
        503,
        "Try again; the operator should check the guard, without which nothing is sent.",
        "Tente novamente; o operador deve verificar a proteção, sem a qual nada é enviado.",
    ),
    Code.STALE_POLICY: _fault(
        503,
        "Try again; the operator should check the control database, whose last state is too old to trust.",
        "Tente novamente; o operador deve verificar o banco de controle, cujo último estado é antigo demais.",
    ),
    Code.AUDIT_UNAVAILABLE: _fault(
        503,
        "Try again; the operator should check the audit volume: without a record there is no response.",
        "Tente novamente; o operador deve verificar o volume de auditoria: sem registro não há resposta.",
    ),
    Code.STORAGE_UNAVAILABLE: _fault(
        503,
        "Try again; the operator should check the database server or the data folder.",
        "Tente novamente; o operador deve verificar o servidor de banco de dados ou o diretório de dados.",
    ),
    Code.CREDENTIAL_UNAVAILABLE: _fault(
        503,
        "The operator must make the provider credential's reference resolvable.",
        "O operador deve tornar resolvível a referência da credencial do provedor.",
    ),
    Code.ISSUER_UNAVAILABLE: _fault(
        503,
        "Try again; the operator should check that the OpenID issuer and its keys can be reached.",
        "Tente novamente; o operador deve verificar o acesso ao emissor OpenID e às suas chaves.",
    ),
    Code.SHUTTING_DOWN: _fault(
        503,
        "Try again; this replica is draining.",
        "Tente novamente; esta réplica está sendo encerrada.",
    ),
    Code.INTERNAL: _fault(
        500,
        "Report this request id to the operator; it is a defect.",
        "Informe este id de requisição ao operador; trata-se de um defeito.",
        retryable=False,
    ),
    Code.CLIENT_DISCONNECTED: _refusal(
        499,
        "Nothing to do: the client left before the end.",
        "Nada a fazer: o cliente saiu antes do fim.",
    ),
    Code.UNKNOWN_OUTCOME: _fault(
        500,
        "Reconcile with the provider's invoice; the process ended before the outcome was known.",
        "Concilie com a fatura do provedor; o processo terminou antes de o resultado ser conhecido.",
    ),
}


class GatewayError(Exception):
    """The root of the three families. `reason` is safe to show: it never carries content or a secret."""

    families: ClassVar[frozenset[Family]] = frozenset(Family)

    def __init__(
        self,
        code: Code,
        reason: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        decision_id: str | None = None,
    ) -> None:
        if code.spec.family not in self.families:
            raise ValueError(f"{code} is not a {type(self).__name__}")
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.param = param
        self.retry_after = retry_after
        """Seconds after which trying again can succeed."""
        self.decision_id = decision_id

    @property
    def status(self) -> int:
        return self.code.spec.status

    @property
    def retryable(self) -> bool:
        return self.code.spec.retryable

    @property
    def remedy(self) -> str:
        return self.code.spec.remedy


class Refusal(GatewayError):
    """We said no."""

    families = frozenset({Family.REFUSAL})


class UpstreamFailure(GatewayError):
    """The provider said no, or broke. `provider_code` and `provider_status` are the provider's own."""

    families = frozenset({Family.UPSTREAM})

    def __init__(
        self,
        code: Code,
        reason: str,
        *,
        provider_code: str | None = None,
        provider_status: int | None = None,
        sent: bool = True,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, reason, param=param, retry_after=retry_after)
        self.provider_code = provider_code
        self.provider_status = provider_status
        self.sent = sent
        """False only when it is certain that no byte of the request reached the provider."""


class Fault(GatewayError):
    """Our own dependency or a bug: fail closed."""

    families = frozenset({Family.FAULT})
