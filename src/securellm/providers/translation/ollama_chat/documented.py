"""The members of Ollama's requests: those that are held, and those that are only known."""

COMMON = {
    "model": "model",
    "stream": "stream",
    "format": "format",
    "think": "thinking.show",
    "options": "options",
    "options.num_predict": "max_output",
    "options.temperature": "temperature",
    "options.top_p": "top_p",
    "options.stop": "stop",
    "options.seed": "seed",
    "options.presence_penalty": "presence_penalty",
    "options.frequency_penalty": "frequency_penalty",
}
"""What is held of a chat and of a completion alike."""

HOLDS = COMMON | {
    "messages": "turns",
    "messages.*.role": "turns",
    "messages.*.content": "turns",
    "messages.*.images": "image",
    "messages.*.thinking": "reasoning",
    "messages.*.tool_calls": "tool_call",
    "messages.*.tool_calls.*.id": "tool_call",
    "messages.*.tool_calls.*.type": "tool_call",
    "messages.*.tool_calls.*.function": "tool_call",
    "messages.*.tool_calls.*.function.index": "tool_call",
    "messages.*.tool_calls.*.function.name": "tool_call",
    "messages.*.tool_calls.*.function.arguments": "tool_call",
    "messages.*.tool_name": "tool_result",
    "messages.*.tool_call_id": "tool_result",
    "tools": "tools",
    "tools.*.type": "tools",
    "tools.*.function": "tools",
    "tools.*.function.name": "tools",
    "tools.*.function.description": "tools",
    "tools.*.function.parameters": "tools",
    "tools.*.function.strict": "tool.strict",
}

_RUNNING = frozenset(
    {
        "draft_num_predict", "embedding_only", "f16_kv", "logits_all", "low_vram", "main_gpu", "min_p", "mirostat",
        "mirostat_eta", "mirostat_tau", "num_batch", "num_ctx", "num_gpu", "num_keep", "num_thread", "numa",
        "penalize_newline", "repeat_last_n", "repeat_penalty", "tfs_z", "typical_p", "use_mlock", "use_mmap",
        "vocab_only",
    }
)  # fmt: skip
"""How a model is loaded and run, and the knobs of samplers that no provider of another dialect has."""

MERE_HINTS = frozenset(f"options.{name}" for name in _RUNNING) | {"keep_alive", "shift", "truncate"}
"""Those that do not change what the answer may be: dropped."""

ENFORCED = "format.enforced"
"""Stands for the promise that a schema is kept to, where other dialects can only be shown it."""

KNOWS = MERE_HINTS | {ENFORCED, "options.top_k", "logprobs", "top_logprobs"}
