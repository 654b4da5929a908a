"""
What the runner and its fork server say to each other.

The runner sends channels over the control socket, each with a mark. `LATER` marks one that holds ``{"modules": […]}``: what
to import while nobody waits. `KERNEL` marks one for a kernel, over which go, a line of JSON each:

- the server says ``{"pid": …}``, or ``{"refused": …}`` when it cannot fork;
- the runner sends the kernel what it is to become: ``{"environment": …, "folder": …, "arguments": …}``; or, for an
  errand that is no kernel, ``{"function": "module:name", "argument": …}``, upon which it says ``{"answer": …}`` and ends;
- the kernel says ``{"refused": …}`` and ends, or ``{"accepted": …}``;
- the server says ``{"ended": exit code}``.

A kernel that has ended stays a zombie until the runner closes the channel, so that its number is nobody else's as long
as the runner may signal it. A channel that closes early is the wish to be rid of the kernel.
"""

KERNEL = b"k"
LATER = b"l"
