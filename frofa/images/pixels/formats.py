"""Formats that are read as images, and the endings of their files.

Of the formats that Pillow opens, these are left out: EPS (Pillow starts Ghostscript), IPTC (it opens whatever it holds,
EPS too), WMF (drawn by Windows alone), FPX and MIC (they need a further package), FITS (its pixels are read without
their scale), IM (Pillow is about to drop it), and BUFR, GRIB, HDF5 and MPEG, whose pixels Pillow cannot read.
"""

ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "DIB": (".dib",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "ICO": (".ico",),
    "ICNS": (".icns",),
    "CUR": (".cur",),
    "DDS": (".dds",),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "PCX": (".pcx",),
    "DCX": (".dcx",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
    "XBM": (".xbm",),
    "XPM": (".xpm",),
    "BLP": (".blp",),
    "FTEX": (".ftc", ".ftu"),
    "FLI": (".fli", ".flc"),
    "GBR": (".gbr",),
    "MSP": (".msp",),
    "PIXAR": (".pxr",),
    "MCIDAS": (),
    "XVTHUMB": (),
    # Those that any bytes may look like come last.
    "PCD": (".pcd",),
    "IMT": (),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "SPIDER": (),
}
"""Pillow's name of each format, in the order in which they are tried, with the endings by which files are listed."""
FORMATS = tuple(ENDINGS)
EXTENSIONS = tuple(ending for endings in ENDINGS.values() for ending in endings)
