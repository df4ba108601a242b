"""Whether rules help: arms and exposures, evidence, the ledger of a product, its report."""
