import math

import numpy as np
import shapely
from shapely import LineString, MultiPoint, Point, Polygon, STRtree, affinity, ops, wkb, wkt
from shapely.geometry import box, mapping, shape


def use(seed: int) -> None:
    a, b = box(0, 0, 4, 4), box(2, 2, 6, 6)
    assert a.union(b).area == 28 and a.intersection(b).area == 4
    assert a.symmetric_difference(b).area == 24 and a.difference(b).length == 16
    assert a.intersects(b) and not a.contains(b) and a.touches(box(4, 0, 5, 4))
    assert a.relate(b) == "212101212"
    circle = Point(seed, 0).buffer(1, quad_segs=64)
    assert abs(circle.area - math.pi) < 1e-3 and abs(circle.centroid.x - seed) < 1e-9
    ring = Polygon(
        [(0, 0), (10, 0), (10, 10), (0, 10)], holes=[[(4, 4), (6, 4), (6, 6), (4, 6)]]
    )
    assert ring.area == 96 and not ring.contains(Point(5, 5))
    line = LineString([(0, 0), (3, 4), (3, 10)])
    assert line.length == 11 and line.interpolate(5).coords[0] == (3, 4)
    assert line.project(Point(3, 6)) == 7 and Point(0, 5).distance(line) == 3
    hull = MultiPoint([(0, 0), (2, 0), (1, 1), (2, 2), (0, 2)]).convex_hull
    assert hull.equals(box(0, 0, 2, 2))

    # Formats.
    assert wkt.loads("POINT (1 2)").wkb.hex() == ("0101000000000000000000f03f0000000000000040")
    assert wkb.loads(ring.wkb).equals(ring)
    assert shape(mapping(ring)).equals(ring)
    assert shapely.from_geojson('{"type":"Point","coordinates":[1,2]}') == Point(1, 2)

    # Arrays of geometries, and a tree over them.
    n = 40
    xs, ys = np.meshgrid(np.arange(n), np.arange(n))
    points = shapely.points(xs.ravel(), ys.ravel())
    inside = shapely.contains_properly(box(-0.5, -0.5, 9.5, 4.5), points)
    assert inside.sum() == 50
    assert shapely.area(shapely.box(xs, ys, xs + 2, ys + 1)).sum() == 2 * n * n
    tree = STRtree(points)
    assert len(tree.query(box(3, 3, 5, 5))) == 9
    assert tree.nearest(Point(7.2, 2.9)) == 3 * n + 7
    assert sorted(tree.query(Point(5, 5), predicate="dwithin", distance=1).tolist()) == sorted(
        [5 * n + 5, 4 * n + 5, 6 * n + 5, 5 * n + 4, 5 * n + 6]
    )
    merged = shapely.union_all(shapely.box(np.arange(10), 0, np.arange(10) + 1, 1))
    assert merged.area == 10 and merged.bounds == (0, 0, 10, 1)
    moved = shapely.transform(a, lambda coordinates: coordinates * 2 + seed)
    assert moved.bounds == (seed, seed, seed + 8, seed + 8)
    assert affinity.rotate(box(0, 0, 2, 1), 90, origin=(0, 0)).bounds == (-1, 0, 0, 2)
    assert (
        len(list(ops.polygonize([[(0, 0), (1, 0)], [(1, 0), (1, 1)], [(1, 1), (0, 0)]]))) == 1
    )
    bow = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    assert not bow.is_valid and "Self-intersection" in shapely.is_valid_reason(bow)
    assert shapely.make_valid(bow).area == 2
    try:
        wkt.loads("POINT (1")
    except shapely.errors.GEOSException as error:
        assert "ParseException" in str(error)
    else:
        raise AssertionError("no GEOSException")
