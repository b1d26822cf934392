"""The promises the tests keep, by id; run as a module, the table of which test keeps which."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

REQUIREMENTS: dict[str, str] = {
    "GW-1": "Chat completions, whole and streamed, with tools, structured outputs, images and unknown fields kept.",
    "GW-2": "Responses, whole and streamed, sequence numbers rising, unknown events forwarded untouched.",
    "GW-3": "Anthropic messages and count_tokens, both API versions, both ways to send the key.",
    "GW-4": "Embeddings, rerank, and a models list of only what the caller may use, in the caller's shape.",
    "GW-5": "Gemini and Ollama native surfaces.",
    "GW-6": "Batches, files, images, audio, moderation and realtime, each bound to its tenant.",
    "GW-7": "The lossless lane changes a body only by a closed list of edits, each named in the audit.",
    "GW-8": "A stream ends by its dialect's terminal event or in an error frame, never in a made-up finish.",
    "GW-9": "Errors in the caller's dialect, with retry and request-id headers, at every stage.",
    "GW-10": "Heartbeats on silent streams; a vanished client cancels the provider's call within a second.",
    "GW-11": "An Idempotency-Key replays a finished answer and never bills twice.",
    "GW-12": "Size, depth and time limits; hostile bytes get an error and the process lives.",
    "GW-13": "Health, readiness and metrics endpoints that name a failing part only to the authenticated.",
    "GW-14": "POST /process: text in, preferences applied, governed call, text and usage out.",
    "GW-15": "Conversations, off by default, encrypted per subject, under retention and erasure.",
    "PR-1": "OpenAI, Anthropic, Gemini, xAI, DeepSeek, Ollama, and any compatible server as configuration.",
    "PR-2": "An unknown provider, a missing credential or a bad configuration refuses start, all problems at once.",
    "PR-3": "Every result becomes one typed record; usage in disjoint buckets equals the provider's own.",
    "PR-4": "Provider errors become one enumeration, the provider's own code kept.",
    "PR-5": "Connect, first-byte, idle and total timeouts per route; the client's deadline travels on.",
    "PR-6": "Capabilities are declared per model; a request that no route can serve is refused with the reason.",
    "PR-7": "A provider is one module and one row; nothing else names it.",
    "PR-8": "The mock answers only in demo and test mode.",
    "PR-9": "One contract suite over every adapter on a real socket; one governed live call for staging.",
    "RS-1": "Only transient failures are retried, with jitter and Retry-After, never after the first byte.",
    "RS-2": "Circuit breakers per provider, region, model and credential.",
    "RS-3": "Adaptive concurrency sheds low priority first, fast, and keeps goodput under overload.",
    "RS-4": "A drain ends or finishes every stream, flushes the records and exits 0.",
    "RS-5": "Degraded modes are explicit, audited, and never touch identity, policy, budget, audit or secrets.",
    "RS-6": "Scaling triggers are metrics that the chart's objects consume.",
    "RT-1": "Ordered fallback across providers by health; the answer names the model served.",
    "RT-2": "Regions by priority with health; residency is policy and failover never leaves it.",
    "RT-3": "Weights, canaries, sticky and shadow traffic.",
    "RT-4": "A plan is a pure function that can be explained and replayed.",
    "RT-5": "A pinned provider is used within policy or refused, never ignored.",
    "ID-1": "Tenants, projects, virtual keys, users, service identities and roles.",
    "ID-2": "Virtual keys are shown once, stored as keyed hashes, scoped, and revoked within two seconds.",
    "ID-3": "JWT and OIDC for people and services.",
    "ID-4": "A tenant can never see, count, time or poison another's data.",
    "ZT-1": "TLS and mutual TLS everywhere; certificates map to principals and reload without restart.",
    "ZT-2": "Roles per service identity; the admin API on its own listener.",
    "ZT-3": "Outbound calls obey an egress allow-list and cannot be led into private ranges.",
    "SC-1": "Credentials by reference only; a value never prints; a literal one refuses start.",
    "SC-2": "Secrets are redacted in logs, errors, traces and audit even when a provider echoes them.",
    "LM-1": "GCRA limits with burst and seed defaults; 429 in the caller's dialect with retry-after.",
    "LM-2": "Limits are exact in one process and across replicas; losing Redis never widens them.",
    "LM-3": "Abuse brings growing, time-boxed, visible blocks that cannot lock out a tenant.",
    "FN-1": "A versioned price book in integer money; an unknown price is unknown, never 0.",
    "FN-2": "Hard budgets reserve before and settle after: no overshoot, no phantom holds, whatever happens.",
    "FN-3": "An append-only double-entry ledger with reports and reconciliation.",
    "FN-4": "Cost drift is detected per tenant and decomposed.",
    "FN-5": "Forecasts carry their tested error; changes can be re-priced on recorded usage.",
    "GD-1": "Personal data by patterns with validated check digits.",
    "GD-2": "Provider keys, tokens, private keys and connection strings are found.",
    "GD-3": "Injections and jailbreaks, direct and indirect, are found through obfuscation.",
    "GD-4": "Replies are validated: leaks, canaries, links, schemas, topics.",
    "GD-5": "Allow, redact, pseudonymise, block or hold, streaming-safe with bounded hold-back.",
    "GD-6": "Every surface is covered, tools and unknown fields too; a dead guard blocks.",
    "GD-7": "Recall per class is measured on frozen sets and has floors.",
    "PH-1": "Phantom is a supervised process with strict schemas; a crash loop refuses.",
    "PH-2": "Phantom's models beat patterns alone and carry model cards.",
    "PO-1": "One policy engine decides everything; an error is a deny.",
    "PO-2": "Governance profiles with allowed fields; unknown actions are refused.",
    "AU-1": "Every request, denial and change has a record with stable, published fields.",
    "AU-2": "An append-only Merkle log with signed checkpoints, proofs and an offline verifier.",
    "AU-3": "Records are durable by group commit before anything is released.",
    "AU-4": "Tampering is detected; kill -9 loses nothing acknowledged.",
    "PV-1": "No content is stored or logged unless the tenant turns it on, encrypted per subject.",
    "PV-2": "Retention, legal hold, erasure by key destruction with a certificate.",
    "PV-3": "Only explicit preferences are kept, with full control by the person.",
    "CO-1": "Evidence packs are generated from live configuration and say their gaps.",
    "CA-1": "An exact cache per tenant with single-flight, TTL and opt-out.",
    "CA-2": "A semantic cache only where its false-hit rate is measured.",
    "OB-1": "Traces end to end; a correlation id on every answer.",
    "OB-2": "Prometheus metrics under stable names with bounded labels.",
    "OB-3": "JSON logs with request and trace ids, redacted by type, never prompts.",
    "OB-4": "Dashboards, rules and alerts provisioned from files and tested live.",
    "OP-1": "Objectives as code; burn-rate alerts are generated and tested.",
    "OP-2": "Runbooks as code from a closed, guarded catalogue.",
    "OP-3": "Doctor, backup, restore, rotation and migration lose no request.",
    "PM-1": "A prompt registry with immutable versions and approval.",
    "EV-1": "Offline evaluation with a statistical verdict.",
    "EV-2": "Activation below the floor is refused; overrides are four-eyes.",
    "FF-1": "Feature flags with canary and automatic rollback.",
    "RP-1": "Deterministic replay with a decision diff.",
    "AG-1": "Durable task graphs resume without repeating a step.",
    "AG-2": "Agents run under limits; every step is governed and billed.",
    "AG-3": "Tools have risk scores; undeclared is highest.",
    "AP-1": "Approvals bind exact arguments, expire as deny, and exclude self-approval.",
    "MC-1": "An MCP server over stdio and HTTP, conformance suite green.",
    "MC-2": "MCP tools with strict schemas, no shell, bounded output.",
    "MC-3": "Long MCP commands never block others; caches are warm and visible.",
    "MC-4": "Upstream MCP servers federate behind the same gates, pinned by schema.",
    "MC-5": "A catalogue of at least 80 working tools in toolsets.",
    "MC-6": "The MCP executable installs itself into the known clients.",
    "CN-1": "A web console with no right that the API does not grant.",
    "CL-1": "One command line with --json, documented exit codes and quick help.",
    "ST-1": "SQLite by default, PostgreSQL by URL; unknown schemas are refused.",
    "ST-2": "Redis is optional and its loss is never a 500.",
    "ST-3": "One store; old databases are imported idempotently.",
    "DP-1": "Images, charts, units and flakes that run read-only and unprivileged.",
    "DP-2": "An install script for Ubuntu that rolls back; TLS that renews itself.",
    "DP-3": "Terraform for three clouds; staged rollout with automatic abort.",
    "DV-1": "CI equals `make check`; coverage has a floor.",
    "DV-2": "Load tests by an open-loop generator, report committed.",
    "DV-3": "A release is sealed by the evidence for its claims.",
    "DC-1": "Documentation whose references are generated and whose examples run.",
    "AR-1": "Each artefact of the enterprise plan has a working counterpart.",
    "PF-1": "Benchmarks publish ratios in one run against a naive baseline.",
    "PF-2": "Builds, images and start-up stay under ceilings.",
}
"""Every id of the requirements, in their order."""

DUE: tuple[str, ...] = (
    *("GW-1", "GW-2", "GW-3", "GW-4", "GW-5", "GW-7", "GW-8", "GW-9", "GW-10", "GW-11", "GW-12", "GW-13"),
    *("GW-6", "GW-14", "ID-1", "ID-3", "PO-1", "PO-2", "PV-3", "ST-1", "ZT-2"),
    *("PR-1", "PR-2", "PR-3", "PR-4", "PR-5", "PR-6", "PR-7", "PR-8", "PR-9", "RS-1", "RT-4", "RT-5"),
    *("ID-2", "ID-4", "SC-1", "SC-2", "LM-1"),
    *("FN-1", "FN-2", "GD-1", "GD-2", "GD-3", "GD-5", "GD-6", "AU-1", "AU-3", "AU-4", "CA-1", "OB-2", "OB-3", "CL-1"),
)
"""What this version must prove: an id here that no test claims is named at the end of a full run."""


def claims(root: Path) -> Iterator[tuple[str, str]]:
    """Each claimed id and the test that claims it, read from the source of the tests under `root`."""
    for path in sorted(root.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.requirement":
                    for argument in mark.args:
                        yield str(ast.literal_eval(argument)), f"{path.relative_to(root.parent)}::{node.name}"


def table(root: Path) -> str:
    """The traceability table, in Markdown."""
    tests: dict[str, list[str]] = {}
    for name, test in claims(root):
        tests.setdefault(name, []).append(test)
    lines = ["| id | promise | kept by |", "|---|---|---|"]
    for name, promise in REQUIREMENTS.items():
        kept = "<br>".join(tests.get(name, ())) or ("**nothing yet**" if name in DUE else "")
        lines.append(f"| {name} | {promise} | {kept} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table(Path(__file__).parent) + "\n")
