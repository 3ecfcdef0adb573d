"""Signatures of images in cosign's form: what is signed, by whom, and where it is found."""
