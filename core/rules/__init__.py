"""Rules: conditions over facts (`conditions`), templates (`render`), which rule meets what (`matching`), and what a
match becomes: a command, or a suppression with its reason (`acting`). `columns` is METER's weaker, columnar form.
"""
