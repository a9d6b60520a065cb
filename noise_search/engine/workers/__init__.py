"""Workers elsewhere: read `asked`, `wire`, `station`, `fed`, then `local` (processes), `actors` (Ray), `hiring`."""
