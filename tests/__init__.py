"""The tests of slipway; what each folder is for stands in CONTRIBUTING.md."""
