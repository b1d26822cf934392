"""Words every stratum shares: ids, money, usage, messages, clock, errors."""
