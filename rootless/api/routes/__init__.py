"""One table of endpoints per noun."""
