"""Everything tiny that tests run on: models from configurations, servers, hubs and searches."""
