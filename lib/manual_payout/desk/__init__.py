"""What one run works with, wired once: settings, people, keys and signatures, the inventory, the reviewed notebooks."""
