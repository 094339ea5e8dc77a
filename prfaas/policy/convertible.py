"""Which pd instance changes its role, once it is decided that one does. Knows not why."""

from prfaas.policy.instance_view import InstanceView, Role
from prfaas.policy.view import ClusterView


def convertible(view: ClusterView, role: Role) -> InstanceView | None:
    """The least loaded of that role; of equals the first by name, so that equal views give equal choices.

    None where a cluster would be left without a decode instance.
    """
    found = []
    for part in view.parts.values():
        those = part.prefills if role == "prefill" else part.decodes
        if part.kind == "pd" and len(those) > (role == "decode"):
            found.append(those[0])
    return min(found, key=lambda i: (i.requests, i.waiting_tokens, i.instance_id), default=None)
