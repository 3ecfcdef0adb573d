"""slirp4netns, published ports and the files that name resolution reads."""
