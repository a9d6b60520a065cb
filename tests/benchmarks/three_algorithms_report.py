def report(out):
    pass
