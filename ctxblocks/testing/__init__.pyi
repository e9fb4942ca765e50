from .cases import Case as Case, Conformance as Conformance, Property as Property
from .options import Request as Request
