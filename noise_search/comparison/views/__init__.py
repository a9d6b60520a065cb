"""What people see of a comparison: figures, tables, text and the report."""
