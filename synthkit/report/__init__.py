"""Pages for people: one HTML file each, pictures inside, nothing loaded from anywhere."""
