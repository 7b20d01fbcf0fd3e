"""Features that STDP finds in images."""
