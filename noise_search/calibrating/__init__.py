"""What algorithms need to know of a model and a verifier, measured: how early scores can be told, what moves keep."""
