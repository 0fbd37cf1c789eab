"""What every service shares: settings, the declared tables, names, state, storage, warehouse, events, logs."""
