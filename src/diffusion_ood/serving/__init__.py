"""The service: a detector that answers over HTTP."""
