"""Certificates for engines reached from afar: an authority, what it issues and takes back."""
