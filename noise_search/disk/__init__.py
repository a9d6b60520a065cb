"""Every byte that is written or read; knows no search."""
