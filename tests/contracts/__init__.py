"""What every algorithm, sampler, pipeline family and verifier must hold to; plug-ins of others inherit it too."""
