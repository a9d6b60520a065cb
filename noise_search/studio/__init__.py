"""A page on which a person searches: boards of pictures, the searches behind them, and who may ask for what."""
