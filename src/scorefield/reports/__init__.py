"""What a person sees: pictures of tables and of images."""
