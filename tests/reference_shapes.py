"""Slow, literal shapes of masks: what the mask and localisation tests compare against."""


def parts(mask, corners):
    """Connected parts of a list of lists, each a set of (row, column), by flooding."""
    height, width = len(mask), len(mask[0])
    left = {(i, j) for i in range(height) for j in range(width) if mask[i][j]}
    found = []
    while left:
        todo, part = [next(iter(left))], set()
        while todo:
            i, j = todo.pop()
            if (i, j) not in left:
                continue
            left.discard((i, j))
            part.add((i, j))
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    if corners or di == 0 or dj == 0:
                        todo.append((i + di, j + dj))
        found.append(part)
    return found


def box(part):
    """x0, y0, x1, y1 of a part, half-open."""
    rows, columns = [i for i, _ in part], [j for _, j in part]
    return min(columns), min(rows), max(columns) + 1, max(rows) + 1


def box_overlap(a, b):
    """IoU of two whole-pixel boxes, by counting pixels."""
    first, second = (
        {(x, y) for x in range(one[0], one[2]) for y in range(one[1], one[3])} for one in (a, b)
    )
    return len(first & second) / len(first | second)


def without_small(mask, pixels):
    """A mask without small parts (which touch at corners too), then without small holes."""
    kept = [row[:] for row in mask]
    for value, corners in ((True, True), (False, False)):
        for part in parts([[pixel == value for pixel in row] for row in kept], corners):
            if len(part) < pixels:
                for i, j in part:
                    kept[i][j] = not value
    return kept


def _mirrored(place, size):
    """Where a place beyond the border is seen in the mirror, the edge pixel twice."""
    place %= 2 * size
    return place if place < size else 2 * size - 1 - place


def smoothed(mask, radius):
    """What more than half of the disk around each pixel holds."""
    height, width = len(mask), len(mask[0])
    around = [
        (di, dj)
        for di in range(-radius, radius + 1)
        for dj in range(-radius, radius + 1)
        if di * di + dj * dj <= radius * radius
    ]
    return [
        [
            sum(mask[_mirrored(i + di, height)][_mirrored(j + dj, width)] for di, dj in around)
            > len(around) / 2
            for j in range(width)
        ]
        for i in range(height)
    ]
