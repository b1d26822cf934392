"""What attempts to take over a model say, in English, Portuguese and Spanish: rules as data.

Patterns are RE2 over lower-case ASCII words with one space between them (`WORDS`), or over the lower-case text as
it stands (`MARKS`). `<name>` stands for a list of `VOCABULARY`; `<name>*3` for up to three words of it.
"""

from typing import NamedTuple


class Phrase(NamedTuple):
    """One rule: 0..1000 says how sure a match is of an attempt, by itself."""

    name: str
    weight: int
    pattern: str
    benign: str = ""
    """A match that goes on like this is about something else."""


VOCABULARY: dict[str, str] = {
    # English
    "drop": (
        "ignor(?:e|es|ing)|disregard(?:ing)?|forget|overrid(?:e|ing)|bypass(?:ing)?|discard|neglect|dismiss|"
        "overlook|disobey|violate|abandon|set aside|throw (?:away|out)|pay no attention to|(?:do not|don t|"
        "dont|never|stop|no longer|cease) (?:follow(?:ing)?|obey(?:ing)?|adher(?:e|ing) to|comply(?:ing)? "
        "with|listen(?:ing)? to)"
    ),
    "fill": (
        "all|any|every|each|the|of|my|your|you|its|their|those|these|this|that|and|or|other|given|developer|"
        "user|s|set|from|to|message|messages|content|openai|anthropic|security|ethical|moral|built in|"
        "internal|chat|conversation|llm|ai|model|assistant|stated|provided|received|been|were|have|me|it|"
        "just|please|full|exact|entire|complete|text|list|completely|entirely|absolutely|hidden|secret|confidential|strict|custom"
    ),
    "old": (
        "previous|previously|prior|above|earlier|preceding|foregoing|former|existing|original|initial|"
        "system|safety|before|aforementioned"
    ),
    "orders": (
        "instructions?|instruct|directions?|rules?|guidelines?|prompts?|programming|directives?|orders?|"
        "commands?|constraints?|restrictions?|guardrails?|polic(?:y|ies)|safeguards?|training|protocols?|"
        "limitations?|filters?"
    ),
    "hidden": (
        "system prompts?|system messages?|system instructions?|hidden (?:prompt|instructions?|rules)|secret "
        "(?:prompt|instructions?)|initial (?:prompt|instructions?|message)|original (?:prompt|instructions?)|"
        "developer (?:message|prompt|instructions?)|pre ?prompt|internal (?:prompt|instructions?|guidelines)|"
        "confidential (?:prompt|instructions?)|base prompt|starting prompt|first prompt|meta ?prompt|custom "
        "instructions"
    ),
    "show": (
        "reveal|print|show|display|repeat|output|tell|give|leak|expose|share|disclose|dump|write|recite|copy|"
        "return|translate|summari[sz]e|encode|paste|provide|describe|what (?:is|are|was|were)|what s|whats|"
        "send|spell out|divulge|echo|type|say"
    ),
    "free": (
        "unrestricted|unfiltered|uncensored|unlimited|jailbroken|amoral|unethical|no longer bound|free "
        "(?:from|of) (?:all |any )?(?:the )?(?:restrictions?|rules|constraints|limits|limitations|filters|"
        "guidelines)|(?:without|no|not have|not bound by|ignores?|has no|have no) (?:any |all |the |your |"
        "ethical |moral |safety |content |or |and )*(?:restrictions?|filters|filtering|limitations?|limits|"
        "censorship|guardrails?|morals?|ethics|ethical guidelines|moral guidelines|safety guidelines|content "
        "polic(?:y|ies))"
    ),
    "asset": (
        "conversation|chat history|message history|secrets?|credentials?|passwords?|api keys?|access tokens?|"
        "system prompt|private data|confidential data|personal data|user data|environment variables|ssh keys?"
    ),
    # Portuguese
    "soltar": (
        "ignor[ea]r?|ignorem|ignorando|desconsider[ea]r?|desconsiderem|esque[cs]a|esquece|esquecer|esquecam|"
        "despreze|descarte|abandone|desobedeca|anule|burle|contorne|desrespeite|viole|(?:nao|deixe de|pare "
        "de) (?:siga|seguir|obedeca|obedecer|cumpra|cumprir)"
    ),
    "enche": (
        "todas?|todos?|as|os|a|o|suas?|seus?|tuas?|teus?|minhas?|meus?|estas?|essas?|esses|quaisquer|"
        "qualquer|de|do|da|das|dos|e|ou|sistema|que|outras?|outros?|por favor|me|mim|completamente|"
        "imediatamente|agora|voce|foram|te|lhe|seguranca|etica|internas?|usuario|desenvolvedor|exatamente|"
        "completo|completa|inteiro|conteudo"
    ),
    "ordens": (
        "instrucoes|instrucao|orientacoes|regras|diretrizes|ordens|comandos|restricoes|prompts?|diretivas|"
        "politicas|limitacoes|programacao|treinamento|filtros"
    ),
    "antigas": (
        "anterior(?:es|mente)?|acima|previ[ao]s?|prev[ia]mente|iniciais|inicial|originais|original|passadas?|"
        "dadas|recebidas?|antes|do sistema|de sistema|de seguranca|ate agora|que voce recebeu|que recebeu|"
        "precedentes|existentes"
    ),
    "mostrar": (
        "revel[ea]r?|mostr[ea]r?|exib[ai]|exibir|imprim[ai]|imprimir|dig[ao]|diz|repit[ao]|repete|informe|"
        "conte|liste|escreva|vaze|traduza|me de|passe|quais (?:sao|eram|foram)|qual (?:e|era|foi)|copie|"
        "compartilhe|envie|transcreva|divulgue|apresente|resuma|descreva|forneca|cole"
    ),
    "oculto": (
        "prompts? (?:de|do) sistema|prompt inicial|prompt oculto|prompt original|prompt secreto|system "
        "prompt|instrucoes (?:ocultas|iniciais|internas|secretas|originais|de sistema|do sistema|"
        "confidenciais|que (?:voce )?recebeu)|mensagem (?:de|do) sistema|regras internas|diretrizes internas"
    ),
    "livre": (
        "sem (?:nenhuma?|qualquer|quaisquer|as|os)? ?(?:restricoes|restricao|filtros?|limites|limitacoes|"
        "regras|censura|etica|moral)|irrestrit[oa]|nao (?:tem|possui|ha|segue|existem|houvesse|tivesse|"
        "existissem) (?:mais )?(?:nenhuma?s? |quaisquer )?(?:regras|restricoes|limites|filtros|limitacoes|"
        "etica)|livre de (?:todas as |qualquer )?(?:regras|restricoes|filtros|limitacoes)"
    ),
    # Spanish
    "soltar_es": (
        "ignor[ea]r?|olvid[ea]r?|descart[ea]|desobedec[ea]|omit[ea]|no (?:sigas|obedezcas|hagas caso (?:a|"
        "de))|deja de (?:seguir|obedecer)|haz caso omiso (?:a|de)|pasa por alto|desatiende"
    ),
    "llena": (
        "todas?|todos?|las|los|la|el|sus?|tus?|mis?|estas?|esas?|cualquier|de|del|y|o|que|otras?|sistema|por "
        "favor|me|completo|exactamente|ocultas?|internas?"
    ),
    "ordenes": (
        "instrucciones|instruccion|indicaciones|reglas|directrices|ordenes|comandos|restricciones|prompts?|"
        "politicas|limitaciones|directivas|normas"
    ),
    "viejas": (
        "anterior(?:es|mente)?|previ[ao]s?|de arriba|iniciales|originales|del sistema|dadas|recibidas|antes|pasadas"
    ),
    "mostrar_es": (
        "revel[ae]r?|muestr[ae]|mostrar|imprim[ae]|imprimir|dime|di|repit[ae]|repite|comparte|escrib[ae]|"
        "list[ae]|copi[ae]|cuales (?:son|eran|fueron)|cual (?:es|era|fue)|ensen[ae]|dame|filtra"
    ),
    "oculto_es": (
        "prompt (?:de|del) sistema|prompt inicial|prompt oculto|system prompt|mensaje (?:de|del) sistema|"
        "instrucciones (?:ocultas|iniciales|internas|secretas|originales|del sistema|de sistema)"
    ),
    "libre": (
        "sin (?:ninguna? |ningun )?(?:restricciones|restriccion|filtros?|limites|limitaciones|reglas|censura|"
        "etica)|no (?:tienes|tiene|hay) (?:ninguna? )?(?:reglas|restricciones|limites|filtros)"
    ),
    # Of what a limit may honestly be absent
    "scope": (
        "(?:on|for|to) (?:the |my |your |our |any )?(?:number|size|amount|length|api|apis|requests?|storage|usage|use|"
        "uploads?|downloads?|users?|account|accounts|file|files|export|plan|data)"
    ),
    "escopo": (
        "(?:de|no|na|para|em|en|del|al) (?:o |a |el |la )?(?:numero|tamanho|tamano|uso|requisicoes|api|armazenamento|"
        "usuarios|usuarios|arquivos|archivos|conta|cuenta|envios?|dados|datos|plano|plan)"
    ),
    # Where a developer mode is an honest thing
    "device": "(?:on|in) (?:my|your|the|an?) (?:phone|android|device|iphone|chromebook|browser|tablet|app|laptop)",
    "aparelho": (
        "(?:no|do|em) (?:meu |seu |um |o )?(?:android|celular|telefone|aparelho|iphone|navegador|chromebook|"
        "tablet|aplicativo|app)"
    ),
    "dispositivo": "(?:en|de) (?:mi |tu |un |el )?(?:android|celular|telefono|movil|dispositivo|navegador|tablet)",
}

WORDS: tuple[Phrase, ...] = (
    # Overriding what the operator said
    Phrase(
        "override.old",
        900,
        "<drop> <fill>*5<old> <fill>*4<orders>",
        "for (?:the|this|that|these|assembl|install)",
    ),
    Phrase("override.old-after", 900, "<drop> <fill>*4<orders> <fill>*5(?:<old>|so far)"),
    Phrase("override.yours", 850, "<drop> <fill>*3your <fill>*3<orders>", "(?:of|for) [a-z]+"),
    Phrase(
        "override.all",
        850,
        "<drop> <fill>*3(?:all|any|every) <fill>*3<orders>",
        "(?:of|for|with|in|on|where|below|that) [a-z0-9]+",
    ),
    Phrase(
        "override.revoke",
        850,
        "(?:cancel|revoke|nullify|void|erase|invalidate|suspend|clear) <fill>*5<old> <fill>*3(?:instructions?|"
        "directives?|guidelines|prompts?|programming)",
    ),
    Phrase(
        "override.void",
        500,
        "<old> <fill>*3<orders> (?:is|are|have been|has been|were) (?:now )?(?:revoked|void|cancell?ed|null|"
        "invalid|suspended|lifted|obsolete|disabled|superseded|overridden|no longer)",
    ),
    Phrase(
        "override.pt.void",
        500,
        "<ordens> <enche>*3<antigas> (?:nao (?:valem|vale|se aplicam)|(?:foram|estao) (?:cancelad|revogad|"
        "anulad|suspens)as)",
    ),
    Phrase("override.any", 400, "<drop> <fill>*3<orders>"),
    Phrase(
        "override.everything",
        850,
        "<drop> <fill>*3(?:everything|anything|all|whatever) (?:that |which )?(?:was |is |has been |have "
        "been |you were |you ve been |you have been |i |we |they |said |told |instructed |written |stated |"
        "came |comes |you know |you )*(?:above|before|previously|earlier|prior|told|instructed|until now|so "
        "far)",
    ),
    Phrase(
        "override.above",
        850,
        "<drop> (?:all |of |the |everything |text |content )+above(?: and| instead| text| content|$)",
    ),
    Phrase(
        "override.given",
        850,
        "<drop> <fill>*3<orders> (?:that |which )?(?:you (?:were|have been|ve been|have|received|got|are|follow)|"
        "(?:i|we|they) gave you|given to you)",
    ),
    Phrase("override.told", 850, "<drop> (?:what|all|everything|anything) <fill>*3(?:told|instructed|said to you)"),
    Phrase("override.instead", 850, "instead of (?:following|obeying) <fill>*4<orders>"),
    Phrase(
        "override.new",
        820,
        "(?:begin|start of|here are|these are|follow|following are) <fill>*2new (?:instructions|rules|directives)",
    ),
    Phrase(
        "override.new-label",
        500,
        "new (?:system )?(?:instructions?|prompt|directives?|task|objective|rules) (?:for|to) (?:you|the "
        "(?:ai|assistant|model))",
    ),
    Phrase("override.system", 850, "(?:system|admin(?:istrator)?|root|developer|security|safety) override"),
    Phrase(
        "override.real-task",
        600,
        "your (?:real|actual|true|new) (?:task|goal|instructions?|purpose|objective|mission) (?:is|are)",
    ),
    Phrase("override.pt.old", 900, "<soltar> <enche>*5<ordens> <enche>*4<antigas>"),
    Phrase("override.pt.old-before", 900, "<soltar> <enche>*4<antigas> <enche>*3<ordens>"),
    Phrase(
        "override.pt.yours",
        850,
        "<soltar> <enche>*3(?:todas|todos|suas|seus|tuas|teus|quaisquer|qualquer) <enche>*3<ordens>",
        "d[aeo]s? [a-z]+",
    ),
    Phrase("override.pt.any", 400, "<soltar> <enche>*3<ordens>"),
    Phrase(
        "override.pt.everything",
        850,
        "<soltar> (?:tudo|todo o resto) (?:o |a |que |te |lhe |foi |esta |veio |eu |voce |disse |disseram |"
        "dito |falado |escrito |sabe |aprendeu |instruido |foram |instrucoes )*(?:acima|antes|anteriormente|"
        "ate agora|ate aqui|anterior)",
    ),
    Phrase(
        "override.pt.told",
        850,
        "<soltar> (?:tudo )?(?:o )?que (?:te |lhe )?(?:disseram|mandaram|foi instruido|foi ordenado)",
    ),
    Phrase(
        "override.pt.new",
        700,
        "(?:novas instrucoes|novas regras|novas ordens) (?:para voce|do sistema|a seguir|sao)",
    ),
    Phrase("override.es.old", 900, "<soltar_es> <llena>*5<ordenes> <llena>*4<viejas>"),
    Phrase("override.es.old-before", 900, "<soltar_es> <llena>*4<viejas> <llena>*3<ordenes>"),
    Phrase(
        "override.es.yours",
        850,
        "<soltar_es> <llena>*3(?:todas|todos|tus|sus|cualquier) <llena>*3<ordenes>",
        "de[l]? [a-z]+",
    ),
    Phrase(
        "override.es.everything",
        850,
        "<soltar_es> todo lo (?:que |te |se |han |has |dicho |dijeron |dijo |esta )*(?:anterior|arriba|antes|"
        "dicho|dijeron)",
    ),
    # Asking for what the operator said
    Phrase("leak.yours", 850, "<show> <fill>*5(?:your|you) <fill>*3(?:<hidden>|<old> <orders>)"),
    Phrase(
        "leak.the",
        700,
        "(?:reveal|print|display|repeat|output|leak|expose|disclose|dump|recite|divulge) <fill>*4<hidden>",
        "(?:parameter|field|template|option|in (?:the )?(?:api|docs|code))",
    ),
    Phrase(
        "leak.prompt",
        820,
        "(?:reveal|print|display|repeat|output|leak|expose|disclose|dump|recite|divulge|show|summari[sz]e|"
        "list) <fill>*5your <fill>*3(?:prompt|instructions|programming|rules|guidelines)",
        "(?:for|on|about) [a-z]+",
    ),
    Phrase(
        "leak.above",
        850,
        "(?:repeat|print|output|copy|recite|echo|write|type|say) <fill>*2(?:everything|all|text|words|"
        "content|contents|sentences?|lines?|prompt|instructions?) <fill>*4(?:above|before|preceding|at the "
        "(?:start|beginning|top))",
        "[0-9]|(?:in|into|onto|to|for) (?:each|every|the|a|an|my) [a-z]+|the (?:line|table|figure|image|chart)",
    ),
    Phrase(
        "leak.opening",
        850,
        "(?:start|starting|begin|beginning|starts) (?:with|from) (?:the words? |the phrase )?you are",
    ),
    Phrase(
        "leak.verbatim",
        800,
        r"your (?:\w+ ){0,2}(?:prompt|instructions|guidelines|rules) (?:verbatim|word for word|exactly as|in "
        "full|in a code block)",
    ),
    Phrase(
        "leak.told",
        800,
        "what (?:were|are|have) you (?:been )?(?:told|instructed|given|programmed) (?:to do )?(?:before|at "
        "the (?:start|beginning)|not to|by your|in your)",
    ),
    Phrase(
        "leak.given",
        820,
        "what <fill>*2(?:instructions|rules|guidelines|prompts?) (?:were|are|have|did) you (?:been )?(?:given|told|"
        "receive|received|programmed|following|operating|under|start)",
    ),
    Phrase(
        "leak.written-above", 800, "what (?:is|was|s) (?:written|stated|said) (?:above|before) (?:this|my|the user)"
    ),
    Phrase(
        "leak.pt",
        850,
        "<mostrar> <enche>*4(?:seu|sua|seus|suas|teu|tuas?|as|o) <enche>*2<oculto>",
        "em (?:geral|llm)|d[aeo]s? (?:api|modelo|manual|documento|produto|aparelho|equipamento|curso|projeto|jogo|"
        "receita|kit|guia|site|app|aplicativo|anexo|email|prova|edital|contrato|contratos)",
    ),
    Phrase(
        "leak.pt.prompt",
        820,
        "(?:revele|mostre|exiba|imprima|repita|vaze|divulgue|transcreva|copie) <enche>*3(?:seu|sua|seus|suas|"
        "teu|tuas?) <enche>*2(?:prompt|instrucoes|regras|diretrizes)",
    ),
    Phrase(
        "leak.pt.above",
        850,
        "(?:repita|imprima|copie|escreva|transcreva|exiba|mostre) (?:tudo|todo o texto|o texto|as palavras|"
        "todo o conteudo|o conteudo|as instrucoes) <enche>*4(?:acima|anterior(?:es)?|antes)",
    ),
    Phrase("leak.es", 850, "<mostrar_es> <llena>*4<oculto_es>"),
    Phrase(
        "leak.es.prompt",
        820,
        "(?:revela|muestra|muestrame|imprime|repite|filtra|copia) <llena>*3(?:tu|tus|su|sus) "
        "<llena>*2(?:prompt|instrucciones|reglas|directrices)",
    ),
    # Becoming somebody without rules
    Phrase(
        "persona.dan",
        900,
        "you are (?:now |going to be |hereby )*(?:called |named |known as )?(?:an? )?(?:dan|stan|dude|aim|"
        "jailbroken|evil ?bot|unrestricted|unfiltered|uncensored|amoral)",
    ),
    Phrase(
        "persona.as",
        900,
        r"(?:act|acting|behave|respond|answer|pretend|role ?play|play|simulate|become|talk|speak) (?:\w+ "
        r"){0,6}(?:dan|jailbroken|do anything now)\b",
    ),
    Phrase("persona.anything", 850, "do anything now"),
    Phrase(
        "persona.free",
        820,
        "(?:you are|you re|you will be|act as|acting as|behave as|respond as|answer as|pretend|pretending|"
        r"role ?play|imagine (?:that )?you|simulate an? (?:ai|llm|chatbot|assistant)|(?:respond|answer|"
        r"reply) to (?:any|every|all)) (?:\w+ ){0,12}(?:<free>)",
        "<scope>",
    ),
    Phrase(
        "persona.you-free",
        820,
        "(?:you|your) (?:now )?(?:have|has|are|re|(?:will|must|should) (?:respond|answer|reply|act|behave|be|have)) "
        r"(?:\w+ ){0,4}(?:<free>)",
        "<scope>",
    ),
    Phrase(
        "persona.mode",
        850,
        "(?:you are (?:now )?in|enter|entering|switch(?:ed|ing)? (?:in)?to|simulate|activate|respond in|"
        r"chatgpt (?:with|in)|answer in|act as (?:\w+ ){0,4}(?:with|in)) (?:\w+ ){0,2}(?:developer|jailbreak|"
        "god|dan|debug|admin|sudo|unrestricted|maintenance|opposite) mode",
        "<device>",
    ),
    Phrase("persona.mode-name", 450, "(?:developer|jailbreak|god|dan|unrestricted) mode"),
    Phrase(
        "persona.mode-on",
        850,
        "(?:jailbreak|dan|developer) mode (?:is )?(?:now )?(?:enabled|activated|engaged)",
        "<device>",
    ),
    Phrase(
        "persona.freed",
        850,
        "(?:you (?:have|ve|are) (?:been )?|has been )(?:broken free|freed|jailbroken|liberated|unshackled|"
        "released) (?:from|of|by)",
    ),
    Phrase(
        "persona.never-refuse",
        550,
        r"(?:never|cannot|can t|must not|will not|won t|do not|don t|may not) (?:\w+ ){0,2}(?:refuse|decline|"
        r"reject|deny) (?:\w+ ){0,3}(?:request|requests|question|questions|to answer|me|user|anything|order|"
        "orders|command)",
    ),
    Phrase(
        "persona.no-warnings",
        450,
        "(?:no|without|never include|never add|do not (?:add|include|give)|don t (?:add|include|give)) "
        r"(?:\w+ ){0,3}(?:disclaimers?|warnings?|moralizing|ethical considerations|apologies)",
    ),
    Phrase("persona.character", 400, "(?:stay|remain|keep) in (?:your )?character|stay a dan"),
    Phrase("persona.from-now", 300, "from now on you (?:are|will|must|should|re)"),
    Phrase(
        "persona.pt.free",
        850,
        "(?:voce (?:agora )?(?:e|esta|sera|vai ser|nao)|aja|atue|responda|finja|comporte se|faca o papel|"
        r"(?:seja|simule) uma? (?:ia|chatbot|assistente|modelo|bot|inteligencia)|imagine que voce) "
        r"(?:\w+ ){0,12}(?:<livre>)",
        "<escopo>",
    ),
    Phrase(
        "persona.pt.dan",
        900,
        r"(?:voce (?:agora )?(?:e|sera)|aja|atue|responda|finja|comporte se|faca o papel) (?:\w+ ){0,6}(?:dan|"
        r"faca qualquer coisa agora)\b",
    ),
    Phrase(
        "persona.pt.from-now",
        300,
        "(?:a partir de agora|de agora em diante|a partir deste momento) (?:voce|vc|tu) (?:e|sera|vai|deve|"
        "nao|atua|responde|esta|es)",
    ),
    Phrase(
        "persona.pt.mode",
        850,
        "(?:voce (?:agora )?esta (?:agora )?(?:em|no)|entre (?:em|no)|mude para(?: o)?|responda (?:em|no)|"
        "simule(?: o)?|ative (?:o )?seu|ative o|ativar o) modo (?:de )?(?:desenvolvedor|jailbreak|deus|dan|"
        "debug|administrador|irrestrito)",
        "<aparelho>",
    ),
    Phrase(
        "persona.pt.mode-on",
        850,
        "modo (?:de )?(?:desenvolvedor|jailbreak|dan) (?:ativado|habilitado|ligado)",
        "<aparelho>",
    ),
    Phrase("persona.pt.mode-name", 450, r"modo (?:de )?(?:desenvolvedor|jailbreak|dan)\b"),
    Phrase(
        "persona.pt.never-refuse",
        600,
        r"(?:nunca|jamais|nao pode|nao deve|nao podera) (?:se )?(?:recus\w+|neg\w+|rejeit\w+) (?:\w+ "
        r"){0,3}(?:pedido|pedidos|pergunta|perguntas|responder|ordem|ordens|solicitac\w+)",
    ),
    Phrase(
        "persona.es.free",
        850,
        r"(?:eres|ahora eres|actua|responde|finge|comportate|imagina que eres|"
        r"(?:se|simula) una? (?:ia|chatbot|asistente|modelo|bot)) (?:\w+ ){0,12}(?:<libre>)",
        "<escopo>",
    ),
    Phrase("persona.es.dan", 900, r"(?:ahora eres|eres|actua como|finge ser|responde como) (?:\w+ ){0,4}dan\b"),
    Phrase(
        "persona.es.mode",
        850,
        "(?:estas en|entra en|activa(?: el)?|cambia a|responde en|simula(?: el)?) (?:el )?modo (?:de "
        ")?(?:desarrollador|jailbreak|dios|dan)",
        "<dispositivo>",
    ),
    # Hiding from the user, speaking to the machine
    Phrase(
        "conceal",
        550,
        "(?:do not|don t|never|without) (?:tell|telling|inform|informing|mention|mentioning|alert|alerting|"
        r"notify|notifying|reveal|revealing)(?: \w+){0,4} (?:to )?(?:the |your )?user",
    ),
    Phrase(
        "conceal.pt",
        550,
        r"(?:nao|nunca|sem) (?:avis\w+|inform\w+|cont\w+|dig\w+|dizer|mencion\w+|alert\w+|notific\w+|"
        r"revel\w+)(?: \w+){0,4} usuario",
    ),
    Phrase(
        "address",
        600,
        "(?:message|instructions?|note|notice|attention|directive|command|warning) (?:to|for) (?:the |all |"
        r"any )?(?:ai|llm|language model|chatbot|ai assistant|ai model|ai agent)s?\b",
    ),
    Phrase(
        "address.if",
        450,
        "(?:if|since|because|when) you are (?:an? )?(?:ai|llm|large language model|language model|chatbot|ai "
        "assistant|ai model|automated)",
    ),
    Phrase(
        "address.attention",
        600,
        "(?:attention|hey|dear|listen) (?:ai|llm|assistant|language model|chatbot|chatgpt|claude|gpt|"
        r"copilot)\b",
    ),
    Phrase(
        "address.pt",
        600,
        "(?:mensagem|instrucoes|instrucao|nota|aviso|atencao|ordem) (?:para|ao|a) (?:o |a |os |as )?(?:ia|"
        r"llm|modelo de linguagem|assistente de ia|inteligencia artificial|chatbot)s?\b",
    ),
)

MARKS: tuple[Phrase, ...] = (
    # Pretending to be the frame around the conversation
    Phrase("mark.chatml", 900, r"<\|?(?:im_start|start_header_id)\|?>\s*(?:system|developer|assistant)"),
    Phrase(
        "mark.token",
        650,
        r"<\|(?:im_start|im_end|system|assistant|endoftext|eot_id|begin_of_text|start_header_id)\|>",
    ),
    Phrase("mark.llama", 820, r"<<sys>>|\[inst\]\s*<<|\[/inst\][^\[]{0,200}\[inst\]"),
    Phrase("mark.inst", 650, r"\[/?inst\]"),
    Phrase("mark.heading", 820, r"(?:^|\n)\s*#{2,6}\s*(?:new )?(?:system|system prompt|system message|developer)\s*:"),
    Phrase("mark.heading-new", 820, r"(?:^|\n)\s*#{1,6}\s*new (?:system )?(?:instructions?|prompt|rules)"),
    Phrase(
        "mark.bracket",
        820,
        r"(?:\[|<|\{\{?)\s*/?(?:system|admin|developer)(?:[ _](?:message|override|prompt|instructions?|note|"
        r"command|update|notice))\s*(?:\]|>|\}|:)",
    ),
    Phrase("mark.system-tag", 500, r"(?:\[|</?)system(?:\]|>)"),
    Phrase("mark.turn", 400, r"\n\s*(?:system|developer)\s*:\s"),
    Phrase(
        "mark.end",
        650,
        r"(?:-{3,}|={3,}|#{3,}|\*{3,}|\[|<)\s*(?:end|fim|fin) (?:of|do|da|del|de) (?:the |o |a )?(?:system "
        ")?(?:prompt|instructions?|context|document|data|input|documento|contexto|instrucoes|entrada)",
    ),
    Phrase(
        "mark.new",
        700,
        r"(?:^|\n|\.|!|:)\s*(?:new instructions?|novas? instruco?es|nuevas instrucciones|begin new "
        r"instructions?)\s*:",
    ),
    # Carrying data out
    Phrase(
        "exfiltrate",
        850,
        r"\b(?:send|post|forward|upload|transmit|exfiltrate|e-?mail|leak|append|submit|"
        r"deliver)\b[^.\n]{0,60}\b(?:<asset>)\b[^\n]{0,80}?(?:https?:|www\.|\bwebhook|"
        r"[a-z0-9._%+-]{1,40}@[a-z0-9-]{1,40}\.)",
    ),
    Phrase(
        "exfiltrate.pt",
        850,
        r"\b(?:envi[ea]r?|mand[ea]r?|poste|encaminh[ea]r?|transmit[ae]|vaze|exfiltre|"
        r"publique)\b[^.\n]{0,60}\b(?:conversa|historico|segredos?|senhas?|credenciais|chaves? de api|dados "
        "(?:confidenciais|pessoais|do usuario)|prompt d[eo] sistema|conversacion|historial|contrasenas?|"
        r"credenciales|secretos?)\b[^\n]{0,80}?(?:https?:|www\.|\bwebhook|"
        r"[a-z0-9._%+-]{1,40}@[a-z0-9-]{1,40}\.)",
    ),
    Phrase(
        "exfiltrate.image",
        820,
        r"!\[[^\]\n]{0,80}\]\(https?://[^)\s]{1,200}(?:[?&][a-z_]{1,20}=|/)(?:\{|\[|<|\$|%7b|your_|summary|"
        "data_?here|conversation|secret)",
    ),
)

ABOUT: str = (
    r"prompt.?injection|injection attack|jailbreak(?:s|ing)?\b|attack(?:s|ers?)?\b|adversarial|malicious|"
    "phish|red.?team|(?:phrase|sentence|message|string|text|input|word|prompt)s? (?:like|such as|that say|"
    r"saying|called)|such as|for example|e\.g\.|example of|detect|classif|what does|what is|meaning of|"
    r"means?\b|explain|research|paper|article|blog|owasp|security|defend|protect|guardrail|injec[ac]o de "
    r"prompt|inyeccion|ataques?\b|por exemplo|por ejemplo|o que (?:e|significa)|que significa|significado|"
    "explique|explica|frases? como|detectar|seguranca|seguridad|titled|traduz"
)
"""Words of those who speak about attacks."""

ROT13_STEMS: str = (
    "vtaber|qvfertneq|sbetrg|cebzcg|vafgehp|cerivb|flfgrz|erirny|qrfpbafvqrer|rfdhrpn|ertenf|vtaben|byivqn"
)
"""Stems of the rules' words, each letter moved by thirteen."""
