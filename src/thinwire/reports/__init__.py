"""A comparison's rows as a terminal table, Markdown, pictures, JSON and one HTML file."""
