"""Class-conditional scores: classifiers of several libraries, and what their classes are called."""
