"""The trained weights that come with the project, as a package so that an installed copy has them."""
