"""Steps 2 and 3: fetches media, and decodes them into entries and the inputs of encoders."""
