"""Bounds of operator norms for given fields: suprema over the continuum in the place of a, b and H."""

from stability.certificates.certificate import Certificate
from stability.certificates.fields import FieldCertificates
from stability.certificates.schur import perron_schur, schur
from stability.certificates.weighted import operator_weighted

__all__ = ["Certificate", "FieldCertificates", "operator_weighted", "perron_schur", "schur"]
