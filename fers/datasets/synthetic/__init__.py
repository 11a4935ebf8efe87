"""A synthetic benchmark in HAD100's layout: made from a seed, for use where the real archive is not at hand.

A scene is built the way an airborne spectrometer sees one. Ground cover is drawn first (``cover``): fields, roads, shore,
crowns, roofs. Each pixel gets abundances of parametric materials (``spectra``): softmax of Gaussian random fields within
a parcel, blurred by the sensor's point spread. Materials vary smoothly within a class. Terrain and shadow shade the
surface, sun and atmosphere turn reflectance into radiance, and the sensor adds noise, stripes and digital counts
(``sensor``). Anomalies are small man-made objects of materials that no background holds (``objects``): as many, as large
and as long as those in HAD100's masks. ``benchmark`` makes the scenes and writes them.

It stands in for HAD100 in tests and examples. No number measured on it says anything about HAD100 itself.
"""
