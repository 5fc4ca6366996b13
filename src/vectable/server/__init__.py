"""The HTTP surface. Imports the web framework, so nothing else imports this."""
