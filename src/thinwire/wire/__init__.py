"""The collectives, few and named, over payloads; the byte ledger and its audit."""
