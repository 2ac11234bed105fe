"""Sign-in at a provider of the site's own (OpenID Connect), beside passwords."""
