"""PySyncObj behind an adapter that alone knows its private names: journal, transport, and the guards around it."""
