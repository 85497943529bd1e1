"""Programs of the house: builds, measurements, pages that are made from code."""
