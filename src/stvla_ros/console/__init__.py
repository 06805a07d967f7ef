"""The operator console: what people see, say, decide and stop, without ROS and without a browser.

:class:`stvla_ros.console.session.Session` holds the logic. ``page.py`` shows it with viser; ``ros/console_stack.py``
connects it to the stack.
"""
