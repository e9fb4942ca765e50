from .cases import Case as Case
from .cases import Conformance as Conformance
from .cases import Property as Property
from .options import Request as Request
