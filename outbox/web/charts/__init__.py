"""Charts as inline SVG: coloured by classes of the stylesheet, so they follow the theme."""
