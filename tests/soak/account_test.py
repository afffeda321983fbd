"""The books can fail: what must be found is fed to them (units of `make check`)."""

import unittest

from account import Account, Refreshes


class Books(unittest.TestCase):
    def setUp(self):
        self.account = Account()

    def asked(self, *ids):
        for id in ids:
            self.account.ask(id)

    def line(self, name):
        return self.account.table()[name]

    def test_answered_and_refused(self):
        self.asked("a", "b")
        self.account.answer("a")
        self.account.answer("b", "wait/remote-server-timeout")
        self.assertEqual((self.line("answered"), self.line("refused")), (1, 1))
        self.assertEqual(self.account.faults(), [])

    def test_a_second_answer_fails(self):
        self.asked("a")
        self.account.answer("a")
        self.account.answer("a")
        self.assertRegex(self.account.faults()[0], "^twice: a")

    def test_a_second_answer_fails_also_if_one_of_them_is_an_error(self):
        self.asked("a", "b")
        self.account.answer("a", "wait/remote-server-timeout")
        self.account.answer("a")
        self.account.answer("b")
        self.account.answer("b", "wait/recipient-unavailable")
        self.assertEqual(len(self.account.faults()), 2)

    def test_a_second_answer_fails_also_to_what_might_have_been_lost(self):
        self.asked("a")
        self.account.excuse("server killed")
        self.account.answer("a")
        self.assertEqual(self.account.faults(), [])
        self.account.answer("a")
        self.assertEqual(len(self.account.faults()), 1)

    def test_an_answer_to_what_was_not_asked_fails(self):
        self.account.answer("a")
        self.assertRegex(self.account.faults()[0], "^never asked: a")

    def test_silence_fails(self):
        self.asked("a", "b")
        self.account.answer("a")
        self.assertRegex(self.account.faults()[0], "^unexplained: b")

    def test_only_what_was_open_is_excused(self):
        self.asked("before")
        self.account.answer("before")
        self.asked("open")
        self.account.excuse("proxy killed")
        self.asked("after")
        self.assertEqual(self.line("lost: proxy killed"), 1)
        self.assertEqual(len(self.account.faults()), 1)
        self.assertRegex(self.account.faults()[0], "^unexplained: after")

    def test_what_was_excused_may_be_answered(self):
        self.asked("a")
        self.account.excuse("server stopped")
        self.account.answer("a", "wait/remote-server-timeout")
        self.assertEqual((self.line("refused"), self.line("lost: server stopped")), (1, 0))
        self.assertEqual(self.account.faults(), [])

    def test_swallowed_is_what_came_before_the_server_knew(self):
        self.asked("open")
        self.account.excuse("proxy killed")
        self.asked("1", "2", "3", "4")
        self.account.answer("3", "wait/remote-server-timeout", nobody_connected=True)
        self.assertEqual(self.line("lost: swallowed"), 2)
        self.assertEqual(self.account.faults(), ["unexplained: 4 got no answer"])

    def test_nothing_is_swallowed_when_the_server_knew_at_once(self):
        self.asked("open")
        self.account.excuse("proxy killed")
        self.asked("1", "2")
        self.account.answer("open", "wait/remote-server-timeout", nobody_connected=True)
        self.account.answer("2", "wait/remote-server-timeout", nobody_connected=True)
        self.assertEqual(self.line("lost: swallowed"), 0)
        self.assertRegex(self.account.faults()[0], "^unexplained: 1")

    def test_nothing_is_swallowed_without_a_kill(self):
        self.asked("1", "2")
        self.account.answer("2", "wait/remote-server-timeout", nobody_connected=True)
        self.assertEqual(self.line("lost: swallowed"), 0)
        self.assertEqual(len(self.account.faults()), 1)

    def test_the_lines_add_up(self):
        self.asked("a", "b", "c", "d")
        self.account.answer("a")
        self.account.excuse("proxy killed")
        self.account.excused.pop("b")      # a book-keeper who loses a leaf
        self.assertIn("4 were sent, 3 are accounted for", self.account.faults())


class RefreshBooks(unittest.TestCase):
    def setUp(self):
        self.books = Refreshes()
        self.books.ask("1", "john", 7)

    def test_updated(self):
        self.books.answer("1", True, 7)
        self.assertEqual(self.books.faults({"john": 7}), [])
        self.assertEqual(self.books.faults({"john": 8}), [])

    def test_updated_and_not_there_is_lost(self):
        self.books.answer("1", True, 7)
        self.assertEqual(self.books.faults({"john": 6}), ["lost: 1"])
        self.assertEqual(self.books.faults({}), ["lost: 1"])

    def test_updated_before_the_web_application_was_asked_fails(self):
        self.books.answer("1", True, 6)
        self.assertRegex(self.books.faults({"john": 7})[0], "^too early: 1")

    def test_refused_promises_nothing(self):
        self.books.answer("1", False, 0)
        self.assertEqual(self.books.faults({}), [])

    def test_silence_fails(self):
        self.assertEqual(self.books.faults({"john": 7}), ["no answer: 1"])

    def test_what_was_in_the_spool_is_promised(self):
        self.books.ask("2", "aaron", 3)
        self.books.listener_ends("killed")
        self.books.listener_ended({"john"})
        self.books.broke("1")
        self.books.broke("2")
        self.assertEqual(self.books.faults({}), ["lost: 1"])
        self.assertEqual(self.books.faults({"john": 7}), [])

    def test_a_connection_breaks_only_with_the_listener(self):
        self.books.listener_ends("killed")
        self.books.listener_ended(set())
        self.books.broke("1")
        self.assertEqual(self.books.faults({}), [])
        self.books.ask("2", "john", 8)
        self.books.broke("2")
        self.assertRegex(self.books.faults({})[0], "^unexplained: .* 2")


if __name__ == "__main__":
    unittest.main()
