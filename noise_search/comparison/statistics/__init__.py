"""Every number of a comparison, from its records: means, differences, worth, transfer, diversity, diagnoses."""
