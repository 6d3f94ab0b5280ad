"""What a component is, the tables that name them, and the plug-ins that add to them."""
