"""The bill of materials, and the gate of licences, of what Penstock ships."""
