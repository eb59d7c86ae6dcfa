"""Bounds of operator norms for given fields: suprema over the continuum in the place of a, b and H."""

from stability.certificates.certificate import Certificate
from stability.certificates.fields import FieldCertificates

__all__ = ["Certificate", "FieldCertificates"]
