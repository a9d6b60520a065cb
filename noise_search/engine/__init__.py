"""Between a plan and a result: driver, prompt search, pool, evaluator, worker."""
