"""The effective dimension of an embedding, by four estimators beside the spectrum of the weights.

Only the active subspace depends on the head; PCA, participation ratio and TwoNN depend on the embeddings alone,
and the spectrum of the weights not even on these.
"""

import numpy as np

TWONN_KEPT = 0.9


def active_spectrum(z: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    """Eigenvalues, falling, of L^T E[J^T J] L with L L^T = Cov(z) (Constantine, Dow & Wang 2014).

    `z` [n, E], `jacobian` [n, O, E] of the outputs by z. Their sum is the variance of the output to first
    order, in squared units of the output.
    """
    return _falling(np.linalg.eigvalsh(active_matrix(z, jacobian)))


def active_matrix(z: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    """L^T E[J^T J] L [E, E] with the symmetric root L of Cov(z).

    Every root has the same eigenvalues; the symmetric one stays nearest to the dimensions themselves, so that
    the diagonal shares the variance of the output out among them.
    """
    root = symmetric_root(covariance(z))
    rows = (jacobian.astype(np.float64) @ root).reshape(-1, z.shape[1])
    return rows.T @ rows / len(jacobian)


def pca_spectrum(z: np.ndarray) -> np.ndarray:
    """Eigenvalues [E] of Cov(z), falling."""
    return _falling(np.linalg.eigvalsh(covariance(z)))


def weight_spectrum(weight: np.ndarray) -> np.ndarray:
    """Squared singular values of a weight matrix [E, D], falling."""
    return np.linalg.svd(weight.astype(np.float64), compute_uv=False) ** 2


def count_for(spectrum: np.ndarray, share: float = 0.99) -> int:
    """The number of leading values of a falling, non-negative spectrum that hold `share` of its sum; 0 for a
    spectrum of zeros.
    """
    total = spectrum.sum()
    if total <= 0:
        return 0
    return int(np.searchsorted(np.cumsum(spectrum) / total, share - 1e-12) + 1)


def participation_ratio(spectrum: np.ndarray) -> float:
    """(sum of s)^2 / sum of s^2: n for n equal values, 1 for a single one; 0 for a spectrum of zeros."""
    squares = float(np.square(spectrum).sum())
    return float(spectrum.sum()) ** 2 / squares if squares > 0 else 0.0


def two_nn(points: np.ndarray) -> float:
    """Intrinsic dimension of points [n, E] by the ratio of the two nearest distances (Facco et al. 2017).

    The slope through the origin of -log(1 - F(mu)) against log(mu), mu = r2 / r1, over the smallest 90 % of
    mu. A point that stands twice counts once. 0 for fewer than 10 different points.
    """
    points = np.unique(points.astype(np.float64), axis=0)
    if len(points) < 10:
        return 0.0
    nearest = _two_nearest(points)
    log_mu = np.sort(np.log(nearest[:, 1] / nearest[:, 0]))
    kept = log_mu[: int(len(log_mu) * TWONN_KEPT)]
    survival = -np.log(1 - np.arange(1, len(kept) + 1) / len(log_mu))
    return float(kept @ survival / (kept @ kept))


def covariance(z: np.ndarray) -> np.ndarray:
    """Cov(z) [E, E] of z [n, E], in double precision."""
    centred = z.astype(np.float64) - z.mean(axis=0, dtype=np.float64)
    return centred.T @ centred / len(z)


def symmetric_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric L with L L = matrix, positive semidefinite."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def dimensions(z: np.ndarray, jacobian: np.ndarray, weight: np.ndarray) -> dict:
    """What dimension.json holds: {"estimates": {name: number}, "spectra": {name: list, falling, sum 1}}.

    `z` [n, E] embeddings, `jacobian` [n, O, E] of the head, `weight` [E, D] of the layer that makes z.
    """
    spectra = {
        "active_subspace": active_spectrum(z, jacobian),
        "pca": pca_spectrum(z),
        "weights": weight_spectrum(weight),
    }
    estimates = {
        "active_subspace_99": count_for(spectra["active_subspace"]),
        "participation_ratio": round(participation_ratio(spectra["pca"]), 2),
        "two_nn": round(two_nn(z), 2),
        "pca_99": count_for(spectra["pca"]),
        "weights_99": count_for(spectra["weights"]),
    }
    shares = {name: spectrum / max(spectrum.sum(), 1e-300) for name, spectrum in spectra.items()}
    return {"estimates": estimates, "spectra": {name: [float(f"{v:.6g}") for v in s] for name, s in shares.items()}}


def _falling(values: np.ndarray) -> np.ndarray:
    return values[::-1].clip(min=0)


def _two_nearest(points: np.ndarray) -> np.ndarray:
    """Distances [n, 2] of each point to its two nearest others."""
    squares = (points**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * points @ points.T
    np.fill_diagonal(distances, np.inf)
    nearest = np.argpartition(distances, 1, axis=1)[:, :2]
    # The expansion above loses digits where points lie close together.
    exact = np.linalg.norm(points[:, None] - points[nearest], axis=2)
    return np.sort(exact, axis=1)
