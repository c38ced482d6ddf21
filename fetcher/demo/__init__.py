"""What ``manage.py demo`` ships: a scripted origin on loopback, and the targets whose outcomes are known beforehand."""
