"""Tables, pictures, pages and reports of what was concluded."""
